# syntax=docker/dockerfile:1
# One image: trains by itself, is a Ray worker, and submits jobs.
#
#   docker build --tag lehr .                                          CPU
#   docker build --tag lehr:gpu --build-arg DEVICE=gpu .               CUDA from TensorFlow's own packages, NCCL in Horovod
#   docker run --rm --shm-size=2g --volume "$PWD/runs:/home/lehr/runs" lehr run jobs/ebm-digits.yaml
#   docker run --rm --gpus all --shm-size=8g lehr:gpu doctor
#   docker run --rm --init --network host --shm-size=2g lehr host --address HEAD:6379           a Ray worker
#
# Ray keeps objects in shared memory, hence --shm-size. Secrets come at run time (--env-file), never into a layer.

ARG DEVICE=cpu
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VIRTUAL_ENV=/opt/lehr \
    PATH=/opt/lehr/bin:$PATH

# CUDA's compiler and NCCL's header and static library; only a GPU build pulls it.
FROM nvidia/cuda:12.9.1-devel-ubuntu22.04 AS cuda

FROM base AS compiler-cpu
# The compiler is no part of the image, so Debian's current one will do.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make cmake git \
    && rm -rf /var/lib/apt/lists/*
ENV BUILD_FLAGS="" TENSORFLOW="tensorflow" LEHR_EXTRA="[launcher]"

FROM compiler-cpu AS compiler-gpu
COPY --from=cuda /usr/local/cuda-12.9 /usr/local/cuda
COPY --from=cuda /usr/include/nccl.h /opt/nccl/include/
COPY --from=cuda /usr/lib/x86_64-linux-gnu/libnccl_static.a /opt/nccl/lib/
ENV BUILD_FLAGS="--gpu" TENSORFLOW="tensorflow[and-cuda]" LEHR_EXTRA="[gpu,launcher]" \
    HOROVOD_CUDA_HOME=/usr/local/cuda \
    HOROVOD_NCCL_INCLUDE=/opt/nccl/include \
    HOROVOD_NCCL_LIB=/opt/nccl/lib \
    PATH=/usr/local/cuda/bin:$PATH

# The steps and their order are those of `make setup`.
# hadolint ignore=DL3006
FROM compiler-${DEVICE} AS build
WORKDIR /src
RUN python -m venv "$VIRTUAL_ENV"
COPY constraints.txt ./
RUN python -m pip install --no-cache-dir --constraint constraints.txt pip setuptools wheel \
    && python -m pip install --no-cache-dir --constraint constraints.txt "$TENSORFLOW"
COPY cluster/horovod cluster/horovod
# Unquoted on purpose: no flag must be no argument.
# hadolint ignore=SC2086
RUN python cluster/horovod/build.py $BUILD_FLAGS && rm -rf /root/.cache
COPY pyproject.toml README.md ./
COPY platform platform
RUN python -m pip install --no-cache-dir --constraint constraints.txt --no-build-isolation ".$LEHR_EXTRA"

FROM base AS runtime-cpu

FROM base AS runtime-gpu
# Read by NVIDIA's container runtime, which brings the driver.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM runtime-${DEVICE} AS runtime
# Ray's cluster launcher copies files with rsync and reaches workers from the head with ssh. Login shells, which it
# and older KubeRay use, forget PATH: what /etc/profile.d says holds for them, too. A volume at /tmp/ray belongs to
# whom it belongs in the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client rsync \
    && rm -rf /var/lib/apt/lists/* \
    && echo "export PATH=$PATH" > /etc/profile.d/lehr.sh \
    && useradd --create-home --uid 1000 lehr \
    && install --directory --owner=lehr --group=lehr /tmp/ray
# The launcher asks the image for its home, and takes /root when it does not say.
ENV HOME=/home/lehr
COPY --from=build /opt/lehr /opt/lehr
WORKDIR /home/lehr
COPY --chown=1000:1000 jobs jobs
# By number: Kubernetes proves that a number is not root, a name it cannot.
USER 1000:1000
ENTRYPOINT ["lehr"]
CMD ["--help"]
