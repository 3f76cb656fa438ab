"""Long-lived services beside the loop: metrics, the http process, the systemd watchdog."""
