"""A sweep: a search over a job, whose whole course is events in a journal. No Ray here, no TensorFlow.

program     the sweep with every number resolved: what is searched, the rungs, the trial behind parameters
space       ranges: corners, what they contain, how two differ
demands     what a search must be, told from the job alone
trying      the space tried out: each value, each corner a plan
pricing     what a sweep costs, at most and likely
searchers   who proposes parameters: pure functions of a seed and what is known
parzen      those with a model, by Optuna; observations: what trials say to a model
rungs       successive halving
population  population-based training
records     what is written of a sweep: events, and the trials that they tell of
course      the state machine: what begins next, what becomes of a report; rebuilt by reading its own events
results     tables, as JSON lines and Parquet
pictures    diagrams, as PNG
importance  how much each parameter matters
"""
