"""The catalogue of models: which worker holds what."""

from __future__ import annotations

from collections.abc import Iterable

from towpath_server.core import ids
from towpath_server.core.errors import ModelNotFound
from towpath_server.core.records import ModelRecord, Principal
from towpath_server.store.base import RecordKey, Store


class Catalogue:
    """All models, newest first where they are listed."""

    def __init__(self, store: Store) -> None:
        self._models = {model.model_id: model for model in store.records(ModelRecord)}

    def add(self, models: Iterable[ModelRecord]) -> None:
        """Models that came."""
        for model in models:
            self._models[model.model_id] = model

    def discard(self, models: Iterable[ModelRecord]) -> None:
        """Models that are gone."""
        for model in models:
            self._models.pop(model.model_id, None)

    def get(self, key: RecordKey) -> ModelRecord | None:
        """The model of this key."""
        return self._models.get(int(key[0]))

    def on_worker(self, worker_id: int) -> list[ModelRecord]:
        """What a worker holds."""
        return [model for model in self._models.values() if model.worker_id == worker_id]

    def find(
        self,
        principal: Principal,
        name_prefix: str = "",
        model_type: str = "",
        task_type: int | None = None,
        worker_id: int | None = None,
    ) -> list[ModelRecord]:
        """The models that this caller may see and that fit all filters, newest first."""
        found = [
            model
            for model in self._models.values()
            if principal.owns(model.tenant, model.user)
            and model.name.startswith(name_prefix)
            and (not model_type or model.model_type == model_type)
            and (task_type is None or model.task_type == task_type)
            and (worker_id is None or model.worker_id == worker_id)
        ]
        return sorted(found, key=lambda model: (model.create_time, model.model_id), reverse=True)

    def model(self, principal: Principal, ref: str) -> ModelRecord:
        """The model of an id, `name` (its newest version) or `name@version`. Raises `ModelNotFound`."""
        found = self._named(principal, ref)
        if not found:
            raise ModelNotFound(model=ref)
        return found[0]

    def own_model(self, principal: Principal, ref: str) -> ModelRecord:
        """The same among the caller's own, whatever else it may see: a job reads models of its user alone."""
        found = [model for model in self._named(principal, ref) if model.user == principal.user]
        if not found:
            raise ModelNotFound(model=ref)
        return found[0]

    def _named(self, principal: Principal, ref: str) -> list[ModelRecord]:
        number = ids.read("mdl", ref)
        if number is not None:
            found = self._models.get(number)
            return [found] if found is not None and principal.owns(found.tenant, found.user) else []
        name, _, version = ref.partition("@")
        return [
            model
            for model in self.find(principal, name_prefix=name)
            if model.name == name and (not version or str(model.version) == version)
        ]
