"""``make bench``: latency, throughput and size, each beside a reference measured in the same run.

A part is one module here with a function ``measure(quick: bool) -> Iterator[Figure]``, named in ``PARTS``.
It yields a figure as soon as it is known. Times differ from machine to machine and from minute to minute;
a ratio against a reference that ran just before or after, on the same machine, says more. Nothing here is a
test, and no test asserts a time.
"""
