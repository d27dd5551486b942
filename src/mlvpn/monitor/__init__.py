"""What people and machines see of a running tunnel: MLVPN's answers, metrics, the web page."""
