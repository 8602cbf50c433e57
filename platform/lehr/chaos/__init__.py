"""A run on this machine under named faults, beside the same run without: what happened, and is it the same?

    faults    what is asked for, checked against the plan; texts reads it from the command line
    board     a folder that all processes of the disturbed run share: which fault struck when, what it did
    disturbed a store that fails as a fault says
    worker    the worker of the disturbed run: the ordinary one, given such a store, and struck step by step
    surroundings, gate   what workers find in their environment; before W&B, what closes for a time
    pair      both runs, one after the other
    comparison, report

Nothing in the code that trains knows of this room.
"""
