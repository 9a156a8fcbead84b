# syntax=docker/dockerfile:1
# One static-enough binary on a base without a shell. Build: docker build -t harness:dev .
# For another architecture: docker buildx build --platform linux/arm64 .
ARG RUST_IMAGE=rust:1-slim-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /work
# The dependencies are a layer of their own: a change of the code does not build them again.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches examples \
    && echo 'fn main() {}' > src/main.rs && echo > src/lib.rs \
    && echo 'fn main() {}' > benches/incident.rs && echo 'fn main() {}' > examples/messages-api-double.rs \
    && cargo build --release --locked --bin harness \
    && rm -rf src target/release/deps/harness-* target/release/deps/libharness-* target/release/harness
COPY src ./src
COPY benches ./benches
COPY examples ./examples
COPY crds ./crds
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin harness

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="harness" \
      org.opencontainers.image.description="People declare what must hold; an agent repairs it inside limits that it cannot move." \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /work/target/release/harness /harness
USER 65532:65532
ENTRYPOINT ["/harness"]
