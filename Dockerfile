# One image for the three services; the command says which one runs:
# `python -m services.upload`, `python -m services.processor` or `python -m services.status`.
#
# Plain instructions only: every builder knows them, and none has to fetch a frontend first.

# Any image with Python 3.11 and its venv module serves.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
WORKDIR /build

# What builds stays in an environment of its own; only /opt/waybill reaches the image.
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/waybill

COPY requirements.lock ./
RUN tools/bin/pip --python /opt/waybill/bin/python install --require-hashes -r requirements.lock

COPY deploy/requirements-build.lock deploy/
RUN tools/bin/pip install --require-hashes -r deploy/requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
COPY waybill waybill
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && tools/bin/pip --python /opt/waybill/bin/python install --no-deps --no-index wheels/*.whl

FROM ${BASE}

# The folders exist and belong to the service before a volume is mounted there: a new volume takes
# over the owner. Nothing else needs to be written but /tmp, so the root may be read-only.
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/waybill --no-log-init waybill \
    && install -d -o waybill -g waybill /var/lib/waybill/blobs /var/lib/waybill/scratch

COPY deploy/healthcheck.py /usr/local/lib/waybill/healthcheck.py
COPY --from=builder /opt/waybill /opt/waybill

# Every container has an address of its own, so that all can use the same port.
ENV PATH=/opt/waybill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WAYBILL_HOST=0.0.0.0 \
    WAYBILL_PORT=8000 \
    WAYBILL_BLOBS=/var/lib/waybill/blobs \
    WAYBILL_SCRATCH=/var/lib/waybill/scratch
EXPOSE 8000
WORKDIR /var/lib/waybill

# By number, so that an orchestrator can see that it is not root.
USER 10001

HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "/usr/local/lib/waybill/healthcheck.py"]

CMD ["python", "-c", "raise SystemExit('Name a service: python -m services.upload, services.processor or services.status.')"]
