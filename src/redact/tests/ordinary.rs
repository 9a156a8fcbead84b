//! Ordinary text of Kubernetes, which must come through as it is.

use crate::redact::{block, line};

const LINES: &[&str] = &[
    "status 503 after 2 ms",
    "the token is expired; a password is required; the key was deleted",
    "mkdir -p /tmp/a && mysql -h db -P 3306",
    "NAME                            READY   STATUS             RESTARTS      AGE",
    "rate-limiter-7d9f8b6c5d-x2xz9   0/1     CrashLoopBackOff   5 (62s ago)   4m31s",
    "coredns-5d78c9869d-abcde        1/1     Running            0             12d   10.244.0.3   kind-control-plane",
    "ip-10-0-12-34.eu-west-1.compute.internal   Ready   <none>   12d   v1.33.1-eks-1a2b3c4",
    "gke-cluster-1-default-pool-6f8d9c1a-x2xz   Ready    <none>   5d   v1.33.2-gke.1240000",
    "aks-nodepool1-12345678-vmss000001   Ready   agent   5d",
    "default-token-x7zq9   kubernetes.io/service-account-token   3      5d",
    "regcred               kubernetes.io/dockerconfigjson        1      5d",
    "deployment.apps/rate-limiter configured",
    "secret/db-credentials created",
    "Name:             rate-limiter-7d9f8b6c5d-x2xz9",
    "Node:             kind-worker/172.18.0.3",
    "Start Time:       Mon, 23 Nov 2026 07:42:01 +0000",
    "Labels:           app=rate-limiter",
    "                  pod-template-hash=7d9f8b6c5d",
    "    Container ID:   containerd://3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c",
    "    Image:          registry.example/rate-limiter:1.2.3",
    "    Image ID:       registry.example/rate-limiter@sha256:3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c",
    "    Port:           8001/TCP",
    "    Liveness:       http-get http://:8001/health delay=0s timeout=1s period=10s #success=1 #failure=3",
    "      DB_PASSWORD:  <set to the key 'password' in secret 'db-credentials'>  Optional: false",
    "      SERVICE_URL:  http://rate-limiter.default.svc.cluster.local:8001/health",
    "      /var/run/secrets/kubernetes.io/serviceaccount from kube-api-access-x7zq9 (ro)",
    "    SecretName:  db-credentials",
    "    TokenExpirationSeconds:  3607",
    "    ConfigMapName:           kube-root-ca.crt",
    "Image pull secrets:  <none>",
    "Tokens:              <none>",
    "token:      1024 bytes",
    "ca.crt:     1107 bytes",
    "QoS Class:                   BestEffort",
    "Tolerations:                 node.kubernetes.io/not-ready:NoExecute op=Exists for 300s",
    "  Normal   Scheduled  5m    default-scheduler  Successfully assigned default/rate-limiter-7d9f8b6c5d-x2xz9 to kind-worker",
    "  Warning  BackOff    2m (x12 over 4m)  kubelet  Back-off restarting failed container rate-limiter in pod rate-limiter-7d9f8b6c5d-x2xz9_default(0f3c1a2b-1234-5678-9abc-def012345678)",
    "  Warning  Unhealthy  1m  kubelet  Readiness probe failed: HTTP probe failed with statuscode: 503",
    "  Warning  Failed  1m  kubelet  Failed to pull image \"registry.example/a:1\": unauthorized: authentication required",
    "MountVolume.SetUp failed for volume \"tls\" : secret \"tls-certificate\" not found",
    "Error: secret \"db-credentials\" not found",
    "Error: couldn't find key password in Secret default/db-credentials",
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \"3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c\": plugin type=\"bridge\" failed",
    "error mounting \"/var/lib/kubelet/pods/0f3c1a2b-1234-5678-9abc-def012345678/volumes/kubernetes.io~projected/kube-api-access-x7zq9\"",
    "open /run/containerd/io.containerd.runtime.v2.task/k8s.io/3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c/log.json: no such file",
    "kubepods-besteffort-pod0f3c1a2b_1234_5678_9abc_def012345678.slice",
    "pvc-0f3c1a2b-1234-5678-9abc-def012345678   8Gi   RWO   Delete   Bound   default/data-postgres-0",
    "Last Transition Time: 2026-11-23T07:42:01.123456Z",
    "I1123 07:42:01.123456       1 leaderelection.go:258] \"Successfully acquired lease\" lock=\"kube-system/kube-scheduler\"",
    "E1123 07:42:01.123456       1 reflector.go:200] \"Failed to watch\" err=\"failed to list *v1.HorizontalPodAutoscaler: context deadline exceeded\"",
    "reason: FailedGetResourceMetric, NodeHasSufficientMemory, ProvisioningFailedPersistentVolumeClaim",
    "horizontalPodAutoscalerV2Beta2Status requiredDuringSchedulingIgnoredDuringExecution",
    "X-Forwarded-For X-Amz-Content-Sha256 Strict-Transport-Security",
    "--token-ttl=24h --authorization-mode=RBAC,Node --service-account-key-file=/etc/kubernetes/pki/sa.pub",
    "automountServiceAccountToken: false",
    "      serviceAccountToken:\n        expirationSeconds: 3607\n        path: token",
    "  - name: tls\n    secret:\n      secretName: tls-certificate",
    "  tls-secret:\n    Type:        Secret (a volume populated by a Secret)\n    SecretName:  tls-certificate",
    "    - name: DB_PASSWORD\n      valueFrom:\n        secretKeyRef:\n          name: db\n          key: password",
    r#"{"secret":{"defaultMode":420,"secretName":"tls"},"imagePullSecrets":[{"name":"regcred"}]}"#,
    r#"{"enabled":true,"delay_ms":500,"requests_per_second":10,"burst":20}"#,
    r#"{"kind":"Pod","metadata":{"uid":"0f3c1a2b-1234-5678-9abc-def012345678","resourceVersion":"1234567890123456789012"}}"#,
    "trace_id=3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c requestId=3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c",
    "commit 3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c01234567 (HEAD -> main)",
    "panic: runtime error: invalid memory address or nil pointer dereference [signal SIGSEGV] goroutine 1 [running]:",
    "main.(*Server).handle(0xc000123456, {0x7f8a3c001200, 0xc0004567}) /go/src/github.com/example/server/internal/handlers/health.go:42 +0x1a5",
    "http://prometheus-server.monitoring.svc.cluster.local:9090/api/v1/query?query=up&time=1763883721.123",
    "dial tcp 10.96.0.1:443: connect: connection refused",
    "listening on [::1]:8080 and 2001:db8:0:1:1:1:1:1",
    "harness-chaos changed /delay_ms of rate-limiter-config from 0 to 500 at 2026-11-23T07:42:01Z",
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/k8s-default-ingress-abc123def0/50dc6c495c0c9188",
    "/subscriptions/0f3c1a2b-1234-5678-9abc-def012345678/resourceGroups/MC_rg1_aks1_westeurope/providers/Microsoft.Compute/virtualMachineScaleSets",
    "go: downloading k8s.io/client-go v0.0.0-20230101000000-abcdef123456",
    "3.14159265358979323846264338327950288 and 12345678901234567890",
    "PWD=/app HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "password authentication failed for user \"bob\"",
    "the token is expired, please log in again",
    "bypass: yes, compass: north, author: bob, design: new",
    "user=bob@example.org sent mail to https://host:8080/a@b",
    "Bearer authentication is required",
    "@@ -1,3 +1,3 @@\n {\n-  \"delay_ms\": 500\n+  \"delay_ms\": 0\n }",
];

#[test]
fn ordinary_lines_come_through_unchanged() {
    for text in LINES {
        assert_eq!(block(text, 10_000), *text);
        if !text.contains('\n') {
            assert_eq!(line(text, 10_000), *text);
        }
    }
}

#[test]
fn they_come_through_together_as_well() {
    let lines: Vec<&str> = LINES.iter().copied().filter(|text| !text.contains('\n')).collect();
    let text = lines.join("\n");
    assert_eq!(block(&text, usize::MAX), text);
}
