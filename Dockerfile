# hardfirst as one container: docker build -t hardfirst .            (CPU)
#                             docker build -t hardfirst --build-arg TORCH=pypi .   (CUDA, for `--gpus all`)
# docs/docker.md says how to run it.
FROM python:3.11-slim

# cpu: torch without CUDA. pypi: PyPI's build, with CUDA on x86-64 Linux.
ARG TORCH=cpu

# OpenCV's wheel loads libGL and GLib, which a slim image does not have.
RUN apt-get update \
    && apt-get install -y --no-install-recommends make tini libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 10001 hardfirst \
    && mkdir /data \
    && chown hardfirst:hardfirst /data

WORKDIR /opt/hardfirst
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# Dependencies before code, so that a change in the code does not install torch again: the editable install only
# notes where the packages are.
COPY Makefile pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir common cvat_adapter ls_backend \
    && touch common/__init__.py cvat_adapter/__init__.py ls_backend/__init__.py \
    && make install VENV=/opt/venv EXTRAS=postgresql TORCH=${TORCH}
COPY common ./common
COPY cvat_adapter ./cvat_adapter
COPY ls_backend ./ls_backend

# With a read-only root file system only /data and /tmp can be written: caches of libraries go there.
ENV PATH=/opt/venv/bin:$PATH HARDFIRST_HOME=/data XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib
USER hardfirst
WORKDIR /data
VOLUME /data
EXPOSE 9090

# Straight to the process, past any proxy and sub-path; 401 asks for the password, so it is a sign of life, too.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('HARDFIRST_PORT', '9090')), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status not in (200, 401))"]

# As process 1, tini hands SIGTERM on from the first moment and collects what trainings leave behind. The service ends
# within 20 s: give it --stop-timeout 30.
ENTRYPOINT ["tini", "--"]
# It answers on 0.0.0.0 once BASIC_AUTH_USER and BASIC_AUTH_PASS are set, and only on loopback before.
CMD ["hardfirst", "serve"]
