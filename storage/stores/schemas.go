package stores

// Schemas are the nine tables by name, each with its schema: what a table that lost everything begins anew with.
func Schemas() map[string]string {
	return map[string]string{
		"agent_mailbox": MailboxSchema, "agent_channels": ChannelsSchema, "channel_history": ChannelHistorySchema,
		"task_queue": TaskQueueSchema, "task_dead_letter": TaskDeadLetterSchema,
		"thread_messages": ThreadMessagesSchema, "thread_replies": ThreadRepliesSchema,
		"message_history": MessageHistorySchema, "config": ConfigSchema,
	}
}
