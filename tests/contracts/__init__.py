"""Contract suites: one class of tests for each interface, run over every implementation.

Hacking
    A test module derives a class `Test...` from the contract and overrides its fixtures.
"""
