"""What is wrong between this machine and a scheduler, found step by step and said in words."""

from __future__ import annotations

from towpath.doctor.examination import examine
from towpath.doctor.findings import Finding

__all__ = ["Finding", "examine"]
