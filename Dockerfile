# The image of cxrbench, for CPUs as it stands. For NVIDIA GPUs, on a base with CUDA's libraries and with torch's build
# for the driver of the machine (uv's --torch-backend; auto, cpu, cu126, cu128 ...):
#   docker build --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 --build-arg TORCH=cu128 -t cxrbench:cuda .
#   docker run --rm --gpus all --user "$(id -u)" -v /data:/data:ro -v cxrbench:/cache -v "$PWD:/work" cxrbench:cuda run ...
ARG BASE=python:3.11-slim
FROM ${BASE}

# Ubuntu's bases bring no Python; those that do keep their own.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN if ! command -v python3 > /dev/null; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*; \
    fi

ARG TORCH=cpu
ARG EXTRAS=audit,figures,pretrain
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY cxrbench cxrbench
COPY model_zoo model_zoo
COPY tasks tasks
COPY results/published results/published
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir 'uv>=0.8,<1' \
    && python3 -m venv /opt/cxrbench \
    && /opt/uv/bin/uv pip install --no-cache --python /opt/cxrbench/bin/python --torch-backend "${TORCH}" \
        ".[${EXTRAS}]" \
    && rm -rf /opt/uv /src/*

# Whoever runs it, by `--user` too, may write the cache, and results where nothing is mounted.
RUN useradd --create-home --uid 10001 cxrbench \
    && install -d -m 1777 /cache /work \
    && install -d /data
USER 10001
ENV PATH=/opt/cxrbench/bin:$PATH \
    CXRBENCH_DATA=/data \
    CXRBENCH_CACHE=/cache \
    HF_HOME=/cache/hf \
    MPLCONFIGDIR=/cache/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
VOLUME ["/data", "/cache"]
WORKDIR /work
ENTRYPOINT ["cxrbench"]
CMD ["--help"]
