# Layerwise's server: a bundle or a registry's champion over HTTP. No PyTorch, no compiler, no shell
# script at run time; runs as nobody in particular on a read-only file system. See docs/deploy.md.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY requirements-serve.lock pyproject.toml README.md LICENSE ./
COPY scripts/install-serve scripts/
COPY src src
RUN PYTHON=python scripts/install-serve /opt/layerwise

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="layerwise" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/layerwise /opt/layerwise
# What is written goes to /tmp, and nothing has to be: a registry at a URL keeps its bundles there.
ENV PATH=/opt/layerwise/bin:$PATH \
    HOME=/tmp \
    LAYERWISE_CACHE=/tmp/layerwise \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["layerwise"]
CMD ["serve", "/registry", "--host", "0.0.0.0", "--port", "8000", "--key-file", "/run/secrets/layerwise_key"]
