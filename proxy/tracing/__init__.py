"""Traces of requests and of what they cause upstream, for who installs the extra `otel` and asks for them.

`wanted` says whether somebody does, `base` is the seam and what stands there when nobody does, `otel` the one module
that knows OpenTelemetry.
"""
