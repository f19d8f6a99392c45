"""The runner behind ``bench-run``: a sweep in, a SKU's measured tables out.

A parent process plans, journals, screens and writes; one worker process a GPU holds the device, so
that a fault or a hang of the GPU costs a point and never the run. The device may be the mock, whose
clock is virtual, so that everything here runs without a GPU.
"""
