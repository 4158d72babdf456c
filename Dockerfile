# docker build -t falco-streamer:0.1.0 .
#
# BASE builds: any image with glibc, a C compiler, and Python 3.11 or newer with its venv module and headers. RUNTIME runs
# what was built: the same Python at the same path, glibc and libstdc++ are all that it needs, so it may be an image
# without a shell and without pip. Release builds give both by digest.
ARG BASE=python:3.13-bookworm
ARG RUNTIME=python:3.13-slim-bookworm

FROM ${BASE} AS build
# The Python of the base, never one that is fetched; files, not links into a cache that stays behind; nothing compiled
# in passing, which would carry the time.
ENV UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_NO_PROGRESS=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

# By how often they change: the tool, what we depend on, then ourselves.
COPY requirements/uv.txt requirements/
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/pip --disable-pip-version-check --no-cache-dir install --require-hashes -r requirements/uv.txt

COPY requirements/run.txt requirements/
RUN /opt/uv/bin/uv venv --python python3 /opt/falco-streamer \
 && /opt/uv/bin/uv pip install --python /opt/falco-streamer/bin/python \
      --require-hashes --only-binary :all: -r requirements/run.txt

# What builds the wheel is held to the hashes of requirements/dev.txt, of which it is a part.
COPY requirements/dev.txt requirements/
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY streamer streamer
# The core by the C compiler (hatch_build.py). Installed by pip, as uv would write down when the wheel was built. Byte
# code is written here, as nothing can be written next to the code later; by hash, as times differ between builds; without
# the Kubernetes client's models, which would be a quarter of all and of which the worker imports none. Then away with
# what is for a shell.
RUN HATCH_BUILD_HOOKS_ENABLE=true /opt/uv/bin/uv build --wheel --out-dir /dist --build-constraints requirements/dev.txt --require-hashes \
 && /opt/uv/bin/pip --python /opt/falco-streamer/bin/python install --no-index --no-compile --no-deps /dist/*.whl \
 && PYTHONHASHSEED=0 /opt/falco-streamer/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      -x '/kubernetes/.*/(api|models)/(?!__init__)' /opt/falco-streamer/lib \
 && rm /opt/falco-streamer/.lock /opt/falco-streamer/bin/*activate* /opt/falco-streamer/bin/pydoc.bat


FROM ${RUNTIME}
ARG VERSION=0.1.0
ARG REVISION=unknown
# No time of building: the same commit on the same base is the same image.
LABEL org.opencontainers.image.title="falco-streamer" \
      org.opencontainers.image.description="Falco's alerts from Kubernetes pod logs to Kafka, exactly once." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Of the build stage nothing comes along but this folder: no uv, and no pip in it.
COPY --from=build /opt/falco-streamer /opt/falco-streamer
ENV PATH=/opt/falco-streamer/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# A number, because runAsNonRoot cannot tell who a name is.
USER 65532:65532
# An image in which it does not even start is never finished.
RUN ["falco-streamer", "version"]

EXPOSE 8080
ENTRYPOINT ["falco-streamer"]
CMD ["run", "--config", "/etc/falco-streamer/streamer.yaml"]
