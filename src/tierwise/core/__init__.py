"""What every layer speaks: requests and answers, tensors and runtimes, errors, clocks, the trace."""
