"""Half an hour of everything that can go wrong, beside a mixed load and somebody who knows every right answer.

`python -m tests.soak` runs it: a real `serve` with two workers before the small crates.io, on a small file system of
its own, first without and then with a Redis, and all faults at random under a seed. It ends with exit status 1 where
one answer was wrong, one error had no cause, a copy was not served that existed, something leaked, or a kind of fault
came up too seldom.

    plan        which kinds of faults there are, how often each has to come, in which order
    stage       the processes: the proxy, the small crates.io, Redis; and the file system
    machine, way, shared    the faults of the machine, of the way to crates.io, of Redis
    load        the clients, those who leave before their time among them
    chronicle   every version of every object, and since when
    oracle      what an answer may be
    census      what the workers hold: descriptors, tasks, memory
"""
