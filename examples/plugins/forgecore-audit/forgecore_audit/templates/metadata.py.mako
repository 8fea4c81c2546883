user_of_task()
