"""What computes vectors in place of torch: graphs of whole encoders, and their runtimes."""
