"""Other gateways' configurations, read into rules of ours."""
