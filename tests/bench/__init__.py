"""The proxy measured beside what its users would pick instead: nginx and Varnish, on one core, in one run.

`python -m tests.bench` runs it; the origin, the load and what is asked are the same for all. Machines differ and
cores are shared with strangers: a figure of one run means something only beside another figure of that run.
"""
