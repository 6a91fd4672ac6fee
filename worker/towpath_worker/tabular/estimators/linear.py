"""Logistic regression and linear models."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge

from towpath_worker.tabular.estimators.base import Data, Fitted, Settings, loss
from towpath_worker.tabular.estimators.sklearn_files import SklearnEstimator

CHUNK = 25


def fit_logistic_regression(data: Data, settings: Settings) -> Fitted:
    """Trains by L-BFGS in chunks of iterations, each going on where the last one ended."""
    parameters = dict(settings.parameters)
    total = int(parameters["max_iter"])
    model = LogisticRegression(**parameters, warm_start=True, random_state=settings.seed)
    estimator = SklearnEstimator(model, data.class_count)
    done, converged = 0, False
    sample, target = data.sample()
    while done < total and not converged:
        chunk = min(CHUNK, total - done)
        model.set_params(max_iter=chunk)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(data.x_train, data.y_train)
        converged = int(max(model.n_iter_)) < chunk
        done += int(max(model.n_iter_))
        settings.report(
            total if converged else done, total, lambda: {data.metric: loss(target, estimator.predict(sample))}
        )
    model.set_params(warm_start=False, max_iter=total)
    notes = [] if converged else [f"the fit had not converged after {total} iterations: raise max_iter"]
    return Fitted(estimator, parameters, _without_early_stopping(settings, notes))


def fit_linear(data: Data, settings: Settings) -> Fitted:
    """Least squares; with `alpha` ridge regression, with `l1_ratio` too an elastic net."""
    parameters = dict(settings.parameters)
    notes: list[str] = []
    model = _linear(parameters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(data.x_train, data.y_train)
    if any(issubclass(each.category, ConvergenceWarning) for each in caught):
        notes.append(f"the fit had not converged after {parameters['max_iter']} iterations: raise max_iter")
    estimator = SklearnEstimator(model, 0, double=True)
    settings.report(1, 1, lambda: {data.metric: loss(data.y_test, estimator.predict(data.x_test))})
    return Fitted(estimator, parameters, _without_early_stopping(settings, notes))


def _linear(parameters: dict[str, Any]) -> LinearRegression | Ridge | ElasticNet:
    alpha, l1_ratio, intercept = parameters["alpha"], parameters["l1_ratio"], parameters["fit_intercept"]
    if not alpha:
        return LinearRegression(fit_intercept=intercept)
    if not l1_ratio:
        return Ridge(alpha, fit_intercept=intercept)
    return ElasticNet(
        alpha, l1_ratio=l1_ratio, fit_intercept=intercept, max_iter=parameters["max_iter"], tol=parameters["tol"]
    )


def _without_early_stopping(settings: Settings, notes: list[str]) -> list[str]:
    if settings.early_stopping_rounds:
        notes.append("early_stopping_rounds has no meaning for this model type, ignored")
    return notes
