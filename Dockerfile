# syntax=docker/dockerfile:1
# One static binary on a base without a shell or a C library.
#   docker build -t harness:dev .
#   docker buildx build --platform linux/amd64,linux/arm64 -t harness:dev .
ARG RUST_IMAGE=rust:1-slim-bookworm
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /work
# A target that is named is built apart from what runs while building: only it is linked statically.
RUN echo "$(uname -m)-unknown-linux-gnu" > /target
ENV RUSTFLAGS="-C target-feature=+crt-static"
# The dependencies are a layer of their own: a change of the code does not build them again.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/cost examples && echo > src/lib.rs \
    && for file in src/main benches/incident benches/decisions benches/cost/main examples/messages-api-double; do \
         echo 'fn main() {}' > "$file.rs"; done \
    && cargo build --release --locked --bin harness --target "$(cat /target)"
COPY src ./src
COPY crds ./crds
COPY tools ./tools
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin harness --target "$(cat /target)" \
    && cp "target/$(cat /target)/release/harness" /harness

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="harness" \
      org.opencontainers.image.description="People declare what must hold; an agent repairs it inside limits that it cannot move." \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /harness /harness
USER 65532:65532
ENTRYPOINT ["/harness"]
