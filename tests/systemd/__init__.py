"""Tests of the units, and of mstfs under a booted systemd."""
