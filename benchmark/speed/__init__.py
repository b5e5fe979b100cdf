"""`python -m benchmark.speed`: what steps, evaluations and starts cost, ours beside the reference.

__main__    the command
bench       what is measured          world       weights, names, data set of both sides
sides       processes asked in turn   worker      one such process
ours        our trainer in it         reference   PromptSRC's, with what is put in from outside
flops       arithmetic that is needed projection  hours of the paper's tables
table       the figures as text
"""
