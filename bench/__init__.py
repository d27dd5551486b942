"""Benchmarks: they measure in the lab what the project promises, and say where a promise is not kept.

``bond`` is the matrix of ``make bench-bond``, ``failover`` that of ``make bench-failover``. ``rows`` says which links,
``trial`` measures one transfer through one tunnel, ``results`` keeps figures as JSON and prints them as a table,
``plots`` draws them. All need root; results go to ``bench/results/``.
"""
