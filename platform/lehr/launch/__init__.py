"""How workers are started, meet each other, are stopped and started again.

Both ways start the same worker (`entry`) with the same environment (`rendezvous`), after the same questions
(`admission`), and tell failures in the same words (`failure`):

- without Ray: `local`, and `process` on the worker's side;
- on Ray: `train` is the driver's side and `embedded` its cluster; in Ray Train's controller live
  `controller`, `backends`, `scaling` (how many workers, by `room` and `census`), `waiting`, `policy` (what
  follows from a failure, by `hosts`), `watchdog` (by `standstill`), `gauges`; `notes` lead to the driver;
- `driver`, `stopping` and `ending`: a run in the foreground, and wishes to end it;
- runs sent to a cluster: `jobs` over `dashboard`, at `addresses`, with `parcels`, `places` and `tail`;
- sweeps: `sweeps` drives one, once `entrance` has let it in and while `keeper` keeps its folder fresh; an
  engine asks the `desk` what to run: `serial` without Ray, `tuning` on Ray Tune (with `floor`, `asking` and
  `segment`); a segment of a trial is a `trial.Piece`, heard through its `diary`;
- evaluations: `evaluation` spreads one over tasks, of models that `taken` reads;
- a host of a cluster: `host`, and `spot` for a cloud's word that it is taken away;
- for Kubernetes: `manifest`, made of `pods` and `volumes`.
"""
