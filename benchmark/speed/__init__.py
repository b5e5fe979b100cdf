"""Measure steps, evaluations and start-up, ours next to the reference: `python -m benchmark.speed`.

__main__    the command: what both sides are given, what is measured, the tables
compare     both sides asked in turn      side        one of them, a process that times its trainer
bound       the least arithmetic there is projection  hours of training for the paper's tables
"""
