"""Devices and threads of this process, set before TensorFlow starts them."""

from __future__ import annotations

import os

import tensorflow as tf


def configure(*, threads: int, devices: int) -> None:
    """Give this process its threads and its devices.

    Workers that share a host would each start a thread a core and fight for them, so each gets its own
    number. GPUs grow their memory on demand: sampling and training share a card with other processes.
    A Horovod worker that sees several GPUs takes the one of its local rank. Where there is no GPU,
    `devices` logical CPU devices stand in.

    Raises:
        RuntimeError: TensorFlow has already started its devices.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # One op at a time: with several, ops of one step wait for each other's threads. A mirrored
    # replica runs in a thread of its own, so there each needs a place.
    tf.config.threading.set_inter_op_parallelism_threads(max(2, devices))
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
