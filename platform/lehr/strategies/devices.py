"""Devices and threads of this process, set before TensorFlow starts them."""

from __future__ import annotations

import os

import tensorflow as tf


def configure(*, threads: int, devices: int, side_by_side: bool = False) -> None:
    """Give this process its threads and its devices.

    Workers that share a host would each start a thread a core and fight for them, so each gets its own
    number. GPUs grow their memory on demand: sampling and training share a card with other processes.
    A Horovod worker that sees several GPUs takes the one of its local rank. Where there is no GPU,
    `devices` logical CPU devices stand in.

    Args:
        threads: of this process, over all its devices.
        devices: of this process.
        side_by_side: the work is many small ops that can go side by side (chains in lanes): then a thread an
            op and several ops at once is faster than several threads an op.

    Raises:
        RuntimeError: TensorFlow has already started its devices.
    """
    # A mirrored replica needs a place of its own among the ops that run at once.
    at_once = max(devices, threads if side_by_side else min(threads, 2))
    within = 1 if side_by_side else max(1, threads // devices)
    tf.config.threading.set_intra_op_parallelism_threads(within)
    tf.config.threading.set_inter_op_parallelism_threads(at_once)
    graphics = tf.config.list_physical_devices("GPU")
    if not graphics:
        _split_processor(devices)
        return
    local_rank = int(os.environ.get("HOROVOD_LOCAL_RANK", "0"))
    if "HOROVOD_RANK" in os.environ and len(graphics) > 1:
        graphics = [graphics[local_rank % len(graphics)]]
        tf.config.set_visible_devices(graphics, "GPU")
    for device in graphics:
        tf.config.experimental.set_memory_growth(device, True)


def _split_processor(devices: int) -> None:
    if devices > 1:
        [processor] = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * devices
        )
