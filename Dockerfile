# One image for the three services. The command selects the service:
# `python -m services.upload`, `python -m services.processor` or `python -m services.status`.
#
# Plain instructions only: every builder supports them without fetching a frontend.

# Any base image with Python 3.11 and its venv module works.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
WORKDIR /build

# Build tools stay in a separate environment. Only /opt/waybill is copied to the final image.
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

# The folders belong to the service before a volume is mounted there, because a new volume inherits
# the owner. Besides /tmp, nothing else is written, so the root file system can be read-only.
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/waybill --no-log-init waybill \
    && install -d -o waybill -g waybill /var/lib/waybill/blobs /var/lib/waybill/scratch

COPY deploy/healthcheck.py /usr/local/lib/waybill/healthcheck.py
COPY --from=builder /opt/waybill /opt/waybill

# Every container has its own address, so all services can use the same port.
ENV PATH=/opt/waybill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WAYBILL_HOST=0.0.0.0 \
    WAYBILL_PORT=8000 \
    WAYBILL_BLOBS=/var/lib/waybill/blobs \
    WAYBILL_SCRATCH=/var/lib/waybill/scratch
EXPOSE 8000
WORKDIR /var/lib/waybill

# A numeric user lets an orchestrator verify that it is not root.
USER 10001

HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "/usr/local/lib/waybill/healthcheck.py"]

CMD ["python", "-c", "raise SystemExit('Choose a service: python -m services.upload, services.processor or services.status.')"]
