//! A Kubernetes API to talk to.
//!
//! - [`connect`]: a client of the cluster that the user means, in which no plain request can wait for ever.
//! - [`control_plane`]: a real `kube-apiserver` and `etcd` as child processes, for the demo and the tests.
//! - [`projector`]: writes a ConfigMap into a directory as a kubelet does, where there is no kubelet.

pub mod connect;
pub mod control_plane;
pub mod projector;
