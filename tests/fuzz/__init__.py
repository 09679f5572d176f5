"""Bytes that nobody should send, given to each place where this proxy reads what strangers wrote.

    targets.py    the places: what reads the bytes, and what must hold whatever they are
    whole.py      the real application and the real protocol class, without sockets and in virtual time
    mutating.py   how bytes are made from others
    findings.py   what was found once, tried again for ever

The tests try each target for a moment and always in the same way; `python -m tests.fuzz` does it for minutes, led by
the coverage of the code where `atheris` is installed.
"""
