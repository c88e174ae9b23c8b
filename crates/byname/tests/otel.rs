//! One trace in OpenTelemetry.
