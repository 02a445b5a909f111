"""The Service front: answers on every Service's cluster address and passes each HTTP request to a Ready pod.

It stands where kube-proxy stands in a cluster, because the API server refuses loopback addresses in EndpointSlices. It
balances requests, not connections, by least outstanding requests. It speaks HTTP/1.1 only: a Service of another
protocol gets no answer here, an `Upgrade` is answered with 501.
"""
