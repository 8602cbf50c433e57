"""What an evaluation of a trained model is: what is asked, of what, and where its numbers are kept.

asking.chosen(plan, names)      which numbers a kind of model can give, without TensorFlow
asking.Question, Trained        what travels to whoever computes
recipe.job(plan)                the job that trains the feature extractor
records.write, records.read     journal/evaluation-0001.jsonl of the run
"""
