# Two stages: the first runs `make build`; the second contains the binary and SoftHSM's module, and runs as a user of its
# own. State is in /var/lib/keyside: mount a volume there.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN make build VERSION=$VERSION

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends softhsm2 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10101 --home-dir /var/lib/keyside --shell /usr/sbin/nologin keyside \
    && install -d -m 0700 -o keyside -g keyside /var/lib/keyside
COPY --from=build /src/keyside /usr/local/bin/keyside
USER 10101:10101
VOLUME /var/lib/keyside
ENV KEYSIDE_SOCKET=/var/lib/keyside/kms.sock
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["keyside", "doctor"]
ENTRYPOINT ["keyside"]
CMD ["up", "--dir", "/var/lib/keyside", "--driver", "softhsm"]
