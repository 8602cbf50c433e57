"""The command line: one plain function a command, registered by `app`."""
