//! Black-box tests: the program as it is shipped, a real API server, a real broker. They live in `tests/`.
