"""Runs the public conformance suite of HTTP caches (github.com/http-tests/cache-tests) against the real proxy.

    git clone https://github.com/http-tests/cache-tests SUITE && (cd SUITE && npm install)
    python -m tests.conformance SUITE [--json FILE]

The suite is no part of this project; it is run from where it lies, against the row `other`.
"""
