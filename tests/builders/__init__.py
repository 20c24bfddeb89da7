"""Small sites, models, apps and folders that several tests share."""
