# syntax=docker/dockerfile:1.7
#
# The image of Sluice: one binary, every role.
#   docker build -t sluice .
#   docker run --rm sluice --help

ARG RUST_VERSION=1.95
ARG DEBIAN_VERSION=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN_VERSION} AS build
# librdkafka and OpenSSL are compiled from vendored sources: that takes a C compiler, make and perl, and no library.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ libc6-dev make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The cache mounts outlive the build, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/usr/local/cargo/git,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked -p sluice \
    && mkdir -p /out \
    && cp target/release/sluice /out/sluice \
    && strip --strip-debug /out/sluice

FROM debian:${DEBIAN_VERSION}-slim
# The certificate authorities are for providers, brokers, registry and store. bash is there for health checks outside
# Kubernetes, which has its own.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 65532 sluice \
    && useradd --system --uid 65532 --gid 65532 --home-dir /var/lib/sluice --shell /usr/sbin/nologin sluice \
    && install -d -o 65532 -g 65532 -m 0750 /var/lib/sluice
COPY --from=build /out/sluice /usr/local/bin/sluice
COPY LICENSE /usr/share/doc/sluice/LICENSE
# Where the sender keeps its local state: give it a volume, or it goes with the container.
ENV SLUICE__SENDER__STORE__DIRECTORY=/var/lib/sluice/state
LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.description="Kafka-native delivery pipeline for WhatsApp" \
      org.opencontainers.image.licenses="Apache-2.0"
# Where the vendored OpenSSL finds the authorities: it was built for another place.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_DIR=/etc/ssl/certs
# By number, so that Kubernetes can tell that it is not root. The root file system may be read-only: Sluice writes
# below /var/lib/sluice only.
USER 65532:65532
WORKDIR /var/lib/sluice
# API, webhooks, reads, admin (/metrics, /livez, /readyz).
EXPOSE 8080 8081 8082 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["sluice"]
CMD ["--help"]
