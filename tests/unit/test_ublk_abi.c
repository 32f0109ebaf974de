/* Our ublk ABI against the header of the kernel that Debian 12 has: what was there in 6.1 and must
 * never change. */
#include "io/ublk_abi.h"

#include <errno.h>
#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>

#include "tests/unit/test.h"

#define EXPECT_SAME_PLACE(our_struct, our_field, its_struct, its_field)       \
	do {                                                                  \
		EXPECT_EQUAL(offsetof(struct our_struct, our_field),          \
			     offsetof(struct its_struct, its_field));         \
		EXPECT_EQUAL(sizeof(((struct our_struct *)NULL)->our_field),  \
			     sizeof(((struct its_struct *)NULL)->its_field)); \
	} while (0)

TEST(a_control_command_is_the_kernels)
{
	EXPECT_EQUAL(sizeof(struct ublk_control_command), sizeof(struct ublksrv_ctrl_cmd));
	EXPECT_SAME_PLACE(ublk_control_command, device_id, ublksrv_ctrl_cmd, dev_id);
	EXPECT_SAME_PLACE(ublk_control_command, queue_id, ublksrv_ctrl_cmd, queue_id);
	EXPECT_SAME_PLACE(ublk_control_command, buffer_size, ublksrv_ctrl_cmd, len);
	EXPECT_SAME_PLACE(ublk_control_command, buffer, ublksrv_ctrl_cmd, addr);
	EXPECT_EQUAL(offsetof(struct ublk_control_command, argument),
		     offsetof(struct ublksrv_ctrl_cmd, data));
}

TEST(what_is_said_of_a_device_is_the_kernels)
{
	EXPECT_EQUAL(sizeof(struct ublk_device_info), sizeof(struct ublksrv_ctrl_dev_info));
	EXPECT_SAME_PLACE(ublk_device_info, queue_count, ublksrv_ctrl_dev_info, nr_hw_queues);
	EXPECT_SAME_PLACE(ublk_device_info, queue_depth, ublksrv_ctrl_dev_info, queue_depth);
	EXPECT_SAME_PLACE(ublk_device_info, state, ublksrv_ctrl_dev_info, state);
	EXPECT_SAME_PLACE(ublk_device_info, request_size_max, ublksrv_ctrl_dev_info,
			  max_io_buf_bytes);
	EXPECT_SAME_PLACE(ublk_device_info, device_id, ublksrv_ctrl_dev_info, dev_id);
	EXPECT_SAME_PLACE(ublk_device_info, server_pid, ublksrv_ctrl_dev_info, ublksrv_pid);
	EXPECT_SAME_PLACE(ublk_device_info, flags, ublksrv_ctrl_dev_info, flags);
	EXPECT_SAME_PLACE(ublk_device_info, server_mark, ublksrv_ctrl_dev_info, ublksrv_flags);
	EXPECT_EQUAL(UBLK_DEVICE_DEAD, UBLK_S_DEV_DEAD);
	EXPECT_EQUAL(UBLK_DEVICE_LIVE, UBLK_S_DEV_LIVE);
	EXPECT_EQUAL(UBLK_DEVICE_QUIESCED, UBLK_S_DEV_QUIESCED);
}

TEST(parameters_are_the_kernels_as_far_as_they_go)
{
	EXPECT_SAME_PLACE(ublk_parameters, size, ublk_params, len);
	EXPECT_SAME_PLACE(ublk_parameters, kinds, ublk_params, types);
	EXPECT_EQUAL(offsetof(struct ublk_parameters, basic), offsetof(struct ublk_params, basic));
	EXPECT_EQUAL(sizeof(struct ublk_basic_parameters), sizeof(struct ublk_param_basic));
	EXPECT_SAME_PLACE(ublk_basic_parameters, attributes, ublk_param_basic, attrs);
	EXPECT_SAME_PLACE(ublk_basic_parameters, logical_block_shift, ublk_param_basic,
			  logical_bs_shift);
	EXPECT_SAME_PLACE(ublk_basic_parameters, physical_block_shift, ublk_param_basic,
			  physical_bs_shift);
	EXPECT_SAME_PLACE(ublk_basic_parameters, optimal_size_shift, ublk_param_basic,
			  io_opt_shift);
	EXPECT_SAME_PLACE(ublk_basic_parameters, minimal_size_shift, ublk_param_basic,
			  io_min_shift);
	EXPECT_SAME_PLACE(ublk_basic_parameters, request_units_max, ublk_param_basic, max_sectors);
	EXPECT_SAME_PLACE(ublk_basic_parameters, device_units, ublk_param_basic, dev_sectors);
	EXPECT_SAME_PLACE(ublk_parameters, discard, ublk_params, discard);
	EXPECT_SAME_PLACE(ublk_discard_parameters, alignment, ublk_param_discard,
			  discard_alignment);
	EXPECT_SAME_PLACE(ublk_discard_parameters, granularity, ublk_param_discard,
			  discard_granularity);
	EXPECT_SAME_PLACE(ublk_discard_parameters, units_max, ublk_param_discard,
			  max_discard_sectors);
	EXPECT_SAME_PLACE(ublk_discard_parameters, zeroes_units_max, ublk_param_discard,
			  max_write_zeroes_sectors);
	EXPECT_SAME_PLACE(ublk_discard_parameters, segments_max, ublk_param_discard,
			  max_discard_segments);
	EXPECT_EQUAL(UBLK_PARAMETERS_BASIC, UBLK_PARAM_TYPE_BASIC);
	EXPECT_EQUAL(UBLK_PARAMETERS_DISCARD, UBLK_PARAM_TYPE_DISCARD);
	EXPECT_EQUAL(UBLK_ATTRIBUTE_READ_ONLY, UBLK_ATTR_READ_ONLY);
	EXPECT_EQUAL(UBLK_ATTRIBUTE_ROTATIONAL, UBLK_ATTR_ROTATIONAL);
	EXPECT_EQUAL(UBLK_ATTRIBUTE_VOLATILE_CACHE, UBLK_ATTR_VOLATILE_CACHE);
	EXPECT_EQUAL(UBLK_ATTRIBUTE_FUA, UBLK_ATTR_FUA);
}

TEST(requests_and_their_answers_are_the_kernels)
{
	EXPECT_EQUAL(sizeof(struct ublk_request_descriptor), sizeof(struct ublksrv_io_desc));
	EXPECT_SAME_PLACE(ublk_request_descriptor, operation, ublksrv_io_desc, op_flags);
	EXPECT_SAME_PLACE(ublk_request_descriptor, unit_count, ublksrv_io_desc, nr_sectors);
	EXPECT_SAME_PLACE(ublk_request_descriptor, first_unit, ublksrv_io_desc, start_sector);
	EXPECT_EQUAL(sizeof(struct ublk_io_command), sizeof(struct ublksrv_io_cmd));
	EXPECT_SAME_PLACE(ublk_io_command, queue_id, ublksrv_io_cmd, q_id);
	EXPECT_SAME_PLACE(ublk_io_command, tag, ublksrv_io_cmd, tag);
	EXPECT_SAME_PLACE(ublk_io_command, result, ublksrv_io_cmd, result);
	EXPECT_SAME_PLACE(ublk_io_command, buffer, ublksrv_io_cmd, addr);
	EXPECT_EQUAL(UBLK_READ, UBLK_IO_OP_READ);
	EXPECT_EQUAL(UBLK_WRITE, UBLK_IO_OP_WRITE);
	EXPECT_EQUAL(UBLK_FLUSH, UBLK_IO_OP_FLUSH);
	EXPECT_EQUAL(UBLK_DISCARD, UBLK_IO_OP_DISCARD);
	EXPECT_EQUAL(UBLK_WRITE_ZEROES, UBLK_IO_OP_WRITE_ZEROES);
	EXPECT_EQUAL(UBLK_REQUEST_FUA, UBLK_IO_F_FUA);
	EXPECT_EQUAL(UBLK_RESULT_REQUEST, UBLK_IO_RES_OK);
	EXPECT_EQUAL(UBLK_RESULT_ABORT, UBLK_IO_RES_ABORT);
}

/* The numbers of 6.1, in the form that every kernel since 6.4 understands. */
TEST(commands_are_the_kernels_numbers_encoded_as_ioctls)
{
	EXPECT_EQUAL(UBLK_GET_QUEUE_AFFINITY,
		     _IOR('u', UBLK_CMD_GET_QUEUE_AFFINITY, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_GET_DEVICE_INFO,
		     _IOR('u', UBLK_CMD_GET_DEV_INFO, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_ADD_DEVICE, _IOWR('u', UBLK_CMD_ADD_DEV, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_DELETE_DEVICE, _IOWR('u', UBLK_CMD_DEL_DEV, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_START_DEVICE, _IOWR('u', UBLK_CMD_START_DEV, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_STOP_DEVICE, _IOWR('u', UBLK_CMD_STOP_DEV, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_SET_PARAMETERS, _IOWR('u', UBLK_CMD_SET_PARAMS, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_START_RECOVERY,
		     _IOWR('u', UBLK_CMD_START_USER_RECOVERY, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_END_RECOVERY,
		     _IOWR('u', UBLK_CMD_END_USER_RECOVERY, struct ublksrv_ctrl_cmd));
	EXPECT_EQUAL(UBLK_FETCH, _IOWR('u', UBLK_IO_FETCH_REQ, struct ublksrv_io_cmd));
	EXPECT_EQUAL(UBLK_COMMIT_AND_FETCH,
		     _IOWR('u', UBLK_IO_COMMIT_AND_FETCH_REQ, struct ublksrv_io_cmd));
}
