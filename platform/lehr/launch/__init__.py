"""How workers are started, meet each other, are stopped and started again.

`train` and `embedded` use Ray; `local` needs none. Both start the same worker with the same environment.
"""
