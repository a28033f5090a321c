# One image for every role: `lorimer serve`, `lorimer monitor`, `lorimer worker`.
# The base model and the adapters live on volumes, never in the image.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/lorimer
ENV PATH=/opt/lorimer/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
RUN pip install -c constraints.txt torch
COPY pyproject.toml README.md LICENSE lorimer.py ./
COPY registry registry
COPY monitoring monitoring
COPY serving serving
COPY trainer trainer
RUN pip install -c constraints.txt '.[otel]'

FROM python:3.11-slim
# a C compiler: the engine builds its kernel for the processor it finds itself on
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libgomp1 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 lorimer && useradd --uid 10001 --gid lorimer --home-dir /var/lib/lorimer --create-home lorimer \
    && install -d -o lorimer -g lorimer /var/lib/lorimer/base /var/lib/lorimer/store /var/lib/lorimer/cache
COPY --from=build /opt/lorimer /opt/lorimer
ENV PATH=/opt/lorimer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LORIMER_STORE=file:///var/lib/lorimer/store \
    LORIMER_BASE=/var/lib/lorimer/base \
    LORIMER_CACHE_DIR=/var/lib/lorimer/cache
USER lorimer
WORKDIR /var/lib/lorimer
# base: a model directory, read-only; store: the registry when it is not S3; cache: verified adapters and converted weights
VOLUME ["/var/lib/lorimer/base", "/var/lib/lorimer/store", "/var/lib/lorimer/cache"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["lorimer"]
CMD ["serve"]
