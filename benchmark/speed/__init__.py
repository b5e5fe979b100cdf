"""`python -m benchmark.speed`: what steps, evaluations and starts cost, ours next to the reference.

__main__    the command: what both sides are given, the order of measurements, the tables
compare     both sides asked in turn      side        one of them, a process that times its trainer
bound       the least arithmetic there is projection  hours of training for the paper's tables
"""
