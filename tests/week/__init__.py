"""A week in an office, simulated: CI jobs, a tool that reads thousands of crates, people, a publisher; and crates.io
with its limits and its bad hours. Through the real application in virtual time, and the same trace without it.

    python -m tests.week                 the week
    python -m tests.week --hours 6       a part of it
    python -m tests.week --real          ten real minutes against `crates-proxy serve`, two workers and a Redis
"""
