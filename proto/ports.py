"""Ports of a cluster's nodes; each can be set when a cluster is made or joined, and is remembered."""

#: Manager: control, task access, images, dispatcher, renewal of certificates. Mutual TLS.
API = 7420
#: Manager: joining alone. TLS of the server; the caller shows a token.
JOIN = 7421
#: Worker: task access and images, for managers and other nodes. Mutual TLS.
WORKER = 7422
#: etcd members among themselves: mutual TLS under an authority of their own.
ETCD_PEER = 7423
#: etcd's clients, on 127.0.0.1 alone, under the same authority.
ETCD_CLIENT = 7424
#: Frames of networks between nodes, in VXLAN (UDP; RFC 7348). Taken from nodes' addresses alone.
VXLAN = 4789
