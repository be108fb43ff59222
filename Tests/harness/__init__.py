"""Starts etcd-compatible servers for the Python tests and the benchmark."""
