"""Test of the suite -> why it is not passed: the rule of this project or the limit of its parts that wants it."""

from __future__ import annotations

REASONS: dict[str, str] = {}
