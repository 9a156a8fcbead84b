# The cluster of `make kind`, and the image that it runs.
CLUSTER ?= harness
IMAGE ?= harness:0.1.0

.PHONY: image kind e2e
image:
	docker build -t $(IMAGE) .

# A kind cluster with the harness and its demo: ready when this returns.
kind: image
	kind get clusters | grep -qx $(CLUSTER) || kind create cluster --name $(CLUSTER) --config deploy/kind.yaml
	kind load docker-image $(IMAGE) --name $(CLUSTER)
	helm upgrade --install harness charts/harness --kube-context kind-$(CLUSTER) --namespace harness-system \
	  --create-namespace --set demo.enabled=true --wait --timeout 2m
	@echo 'Next: kubectl --context kind-$(CLUSTER) get tickets -w'
	@echo '      cargo run -- chaos slow --context kind-$(CLUSTER)'

# End to end on the cluster of the current context; see tests/e2e/run.
e2e:
	tests/e2e/run
