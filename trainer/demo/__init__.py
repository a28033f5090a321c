"""The main job, told as a story: train, publish, serve, roll back, drift, retrain. Real model, real text."""
