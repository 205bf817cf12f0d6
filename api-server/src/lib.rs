//! The firecrest-api binary and library: FirecREST v2 routes, services, commands, executors.
